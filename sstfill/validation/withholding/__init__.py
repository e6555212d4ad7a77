# SPDX-License-Identifier: Apache-2.0
"""What is withheld of a series: runs of dates or random masks that resemble its gaps."""
