document.querySelectorAll("th[data-sort]").forEach((head) => {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = (head.dataset.down = head.dataset.down === "1" ? "0" : "1") === "1";
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
