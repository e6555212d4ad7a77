# SPDX-License-Identifier: Apache-2.0
"""Fields on grids: axes and units, the sea, gaps, what goes with a variable, scaling, patches."""
