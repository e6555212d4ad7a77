# SPDX-License-Identifier: Apache-2.0
"""Copernicus Marine datasets, downloaded window by window by the official client."""
