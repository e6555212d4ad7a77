# SPDX-License-Identifier: Apache-2.0
"""EOF methods and climatology fitted to an archive: amplitudes, the maps of patterns, estimates."""
