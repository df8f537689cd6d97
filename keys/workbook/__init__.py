"""The spreadsheet's twin as an .xlsx file, for teams without Google."""

from keys.workbook.write import write

__all__ = ["write"]
