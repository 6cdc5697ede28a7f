"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = Number.parseFloat(cell.dataset.value ?? cell.textContent);
    return headings[column].classList.contains("text") ? cell.textContent.trim() : Number.isNaN(number) ? -1 : number;
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const text = heading.classList.contains("text");
      const was = heading.getAttribute("aria-sort");
      const rising = was === "none" ? text : was === "descending"; // figures the largest first
      const order = [...body.rows].sort((a, b) => {
        const [left, right] = [value(a, column), value(b, column)];
        const sign = text ? left.localeCompare(right) : left - right;
        return rising ? sign : -sign;
      });
      body.append(...order);
      for (const each of headings) each.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    });
  });
}
