// Tables sort by the buttons in their heads: largest first, then smallest first; rows without a value last.
document.querySelectorAll("th[data-sort] button").forEach((button) => {
  button.addEventListener("click", () => {
    const head = button.parentNode, body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const rows = [...body.rows].filter((row) => !row.classList.contains("total"));
    const total = [...body.rows].filter((row) => row.classList.contains("total"));
    rows.sort((a, b) => {
      const x = parseFloat(value(a)), y = parseFloat(value(b));
      if (isNaN(x) && isNaN(y)) return value(a).localeCompare(value(b)) * (down ? 1 : -1);
      if (isNaN(x)) return 1;
      if (isNaN(y)) return -1;
      return down ? y - x : x - y;
    });
    body.append(...rows, ...total);
  });
});
