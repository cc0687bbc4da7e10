"""What several hosts show only together: who reaches whose ports, who sees whose file, what is open from outside.

Each of these asks many hosts in step. A host that fails makes holes, named in `missing`; it never fails the others, and
what it would have had to answer is never guessed. Listeners and files are removed also when the caller is cancelled.
"""

from dstui.gather.nonce_matrix import nonce_matrix
from dstui.gather.port_matrix import pair_plan, port_matrix, sample_ports
from dstui.gather.vantage import vantage_reach

__all__ = ["nonce_matrix", "pair_plan", "port_matrix", "sample_ports", "vantage_reach"]
