"use strict";
const collator = new Intl.Collator(undefined, { numeric: true });

function key(cell) {
  const text = cell.textContent.trim();
  const number = parseFloat(text);
  return { text, number, empty: text === "" || text === "–" };
}

// Of a long table the first rows are in the page, the others are kept here: no browser lays thousands out at once.
const MOST = 200;
const tables = new Map();

function lay(table) {
  const { rows, more } = tables.get(table);
  table.tBodies[0].replaceChildren(...rows.slice(0, tables.get(table).shown));
  more.hidden = tables.get(table).shown >= rows.length;
  more.textContent = `Show all ${rows.length} rows (${Math.min(rows.length, tables.get(table).shown)} are shown)`;
}

function sort(table, place, down) {
  const state = tables.get(table);
  const entries = state.rows.map((row) => ({ row, key: key(row.cells[place]) }));
  const numbers = entries.every((one) => one.key.empty || !Number.isNaN(one.key.number));
  const sign = down ? -1 : 1;
  entries.sort((one, other) => {
    if (one.key.empty || other.key.empty) return one.key.empty - other.key.empty;
    if (numbers) return sign * (one.key.number - other.key.number);
    return sign * collator.compare(one.key.text, other.key.text);
  });
  state.rows = entries.map((one) => one.row);
  lay(table);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = table.tHead.rows[0].cells;
  for (const [place, head] of Array.from(heads).entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending" && (place > 0 || head.hasAttribute("aria-sort"));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, place, down);
    });
    head.replaceChildren(button);
  }
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  more.addEventListener("click", () => { tables.get(table).shown = Infinity; lay(table); });
  table.parentElement.after(more);
  tables.set(table, { rows: Array.from(table.tBodies[0].rows), shown: MOST, more });
  lay(table);
}
addEventListener("beforeprint", () => {
  for (const [table, state] of tables) if (table.checkVisibility()) { state.shown = Infinity; lay(table); }
});

function show(cell, value, shades) {
  cell.textContent = value === null ? "" : value.toFixed(3);
  for (const name of Array.from(cell.classList)) if (/^s\d+$/.test(name)) cell.classList.remove(name);
  if (value !== null) cell.classList.add("s" + Math.floor(value * shades + 0.5));
}

const link = document.getElementById("matrices");
if (link) {
  const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (letter) => letter.charCodeAt(0));
  const data = JSON.parse(new TextDecoder().decode(bytes));
  const matrices = document.querySelectorAll("table.matrix");
  const control = document.querySelector(".switch");
  control.hidden = false;
  control.addEventListener("change", (event) => {
    const metric = Number(event.target.value);
    document.getElementById("metric-name").textContent = Object.keys(data.metrics)[metric];
    for (const [number, table] of matrices.entries()) {
      for (const row of tables.get(table).rows) {
        const cells = Array.from(row.cells).slice(1);
        const values = data.matrices[number].rows[row.dataset.row].cells.map((cell) => cell[metric]?.[0] ?? null);
        const known = values.filter((value) => value !== null);
        const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
        const least = known.length ? Math.min(...known) : null;
        for (const [place, value] of [...values, mean, least].entries()) show(cells[place], value, data.shades);
      }
      for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    }
  });
}

function reveal() {
  const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();
