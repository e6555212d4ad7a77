# SPDX-License-Identifier: Apache-2.0
"""The paper's own networks, trained for its tables: variants, and one for each data set."""
