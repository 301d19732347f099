"""What drivers that read metrics in Prometheus' formats share: lines, series, mapping tables, and the reader.

No driver itself. `mapping` says which metric is which field; `series` and `parse` read pages; `plan` and
`fold` make fragments of their values; `reader` is the whole way from an endpoint to an observation.
"""

from steersman.drivers.exposition.mapping import Mapping, open_mapping
from steersman.drivers.exposition.options import ExpositionOptions, TableOptions
from steersman.drivers.exposition.reader import EndpointReader

__all__ = ["EndpointReader", "ExpositionOptions", "Mapping", "TableOptions", "open_mapping"]
