# SPDX-License-Identifier: Apache-2.0
"""What surrounds every command: `signals` that end it, the `terminal` it writes to, and `running`,
which turns whatever ends it into one line and an exit status.

Nothing is imported here: until signals are caught, as little as possible may be imported.
"""
