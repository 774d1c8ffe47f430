// Tables of class "sortable": a click on a head sorts by its column, a second click the other way round.
"use strict";
{
document.documentElement.classList.add("scripted");

// What a cell is sorted by: data-value, else the number that it begins with, else its text.
const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
};

const compareValues = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (a === "" || b === "") return (a === "") - (b === "");
  return String(a).localeCompare(String(b), undefined, { numeric: true });
};

const sortTable = (table, head) => {
  const column = head.cellIndex;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  // numbers begin with the greatest, words with the first
  const first = typeof valueOf(rows[0], column) === "number" ? "descending" : "ascending";
  const other = first === "descending" ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((a, b) => sign * compareValues(valueOf(a, column), valueOf(b, column)));
  body.append(...rows);
};

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length < 2) continue;
  for (const head of table.tHead.rows[0].cells) {
    if (!head.textContent.trim()) continue;
    head.classList.add("sorts");
    head.tabIndex = 0;
    head.addEventListener("click", () => sortTable(table, head));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter") sortTable(table, head);
    });
  }
}
}
