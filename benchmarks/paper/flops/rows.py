"""All rows, in the order of the tables."""

from paper.flops import of_dit, of_flux, of_hidream, of_opensora, of_pixart
from paper.flops.row import Row

ROWS: tuple[Row, ...] = (
    *(row for row in of_flux.rows() if row.table == "II"),
    *of_hidream.rows(),
    *of_dit.rows(),
    *of_opensora.rows(),
    *(row for row in of_flux.rows() if row.table == "VI"),
    *of_pixart.rows(),
)
