# SPDX-License-Identifier: Apache-2.0
"""`Auto`: try the methods on withheld clouds, then fill with the best or with a blend."""
