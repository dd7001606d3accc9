// Headings become buttons that sort their table; without scripts the rows stay in the order that the author chose.
for (const th of document.querySelectorAll("th")) {
  const button = document.createElement("button");
  button.append(...th.childNodes);
  th.append(button);
  button.addEventListener("click", () => {
    const sign = th.ariaSort === "ascending" ? -1 : 1;
    for (const other of th.parentNode.children) other.removeAttribute("aria-sort");
    th.ariaSort = sign > 0 ? "ascending" : "descending";
    const key = (row) => row.cells[th.cellIndex];
    const number = (cell) => parseFloat(cell.dataset.number);
    const body = th.closest("table").tBodies[0];
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) {
        return Number.isNaN(x) - Number.isNaN(y) || sign * a.textContent.localeCompare(b.textContent);
      }
      return sign * (x - y);
    };
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  });
}
// What is folded opens where a link leads to it, and on paper.
const unfold = (details) => { if (details) details.open = true; };
const follow = () => location.hash && unfold(document.querySelector(`${location.hash} > details`));
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => document.querySelectorAll("section > details").forEach(unfold));
follow();
