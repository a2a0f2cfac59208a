// Sorts, searches and filters a table of latents. Without it the table is plain and whole. It reads the text that the
// page already shows and changes only which rows stand there in which order; no text is ever taken for markup or code.
"use strict";
(() => {
  // To lay out 2,000 rows anew takes a third of a second, 200 no time that one sees.
  const FIRST = 200;
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const number = (text) => {
    const found = text.replace(/\u2212/g, "-").replace(/,/g, "").match(/[-+]?\d*\.?\d+(?:e[-+]?\d+)?/);
    return found ? Number(found[0]) : NaN;
  };
  const plain = (count) => count.toLocaleString("en");

  // What is empty stays last either way; equal ones stay in the order of the page.
  const ordered = (rows, column, isText, down) => {
    const keyed = rows.map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, key: isText ? text : number(text) };
    });
    const empty = ({ key }) => (isText ? key === "" : Number.isNaN(key));
    const full = keyed.filter((one) => !empty(one));
    full.sort((a, b) => (isText ? words.compare(a.key, b.key) : a.key - b.key) * (down ? -1 : 1));
    return [...full, ...keyed.filter(empty)].map(({ row }) => row);
  };

  for (const box of document.querySelectorAll("[data-latents]")) {
    const body = box.querySelector("tbody");
    const heads = [...box.querySelectorAll("thead th")];
    const controls = box.querySelector(".controls");
    const said = controls.querySelector("[role=status]");
    const all = controls.querySelector("button");
    const search = controls.querySelector("input[type=search]");
    const filters = [...controls.querySelectorAll("select, input[type=checkbox]")];
    const rows = [...body.rows];
    const found = new Map(rows.map((row) => [row, row.cells[0].textContent.toLowerCase()]));
    let order = rows;
    let most = FIRST;

    const show = () => {
      const asked = search.value.trim().toLowerCase();
      const wanted = filters.filter((one) => one.value && (one.type !== "checkbox" || one.checked));
      const passing = order.filter(
        (row) => found.get(row).includes(asked) && wanted.every((one) => row.classList.contains(one.value)),
      );
      body.replaceChildren(...passing.slice(0, most));
      all.hidden = passing.length <= most;
      said.textContent = `${plain(passing.length)} of ${plain(rows.length)}${all.hidden ? "" : `, ${most} shown`}`;
    };

    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const isText = column === 0;
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : !isText;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        order = ordered(rows, column, isText, down);
        show();
      });
    });
    all.addEventListener("click", () => {
      most = rows.length;
      show();
    });
    search.addEventListener("input", show);
    filters.forEach((one) => one.addEventListener("change", show));
    controls.hidden = false;
    show();
  }
})();
