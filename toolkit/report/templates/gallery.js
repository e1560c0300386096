// Pictures: which are shown and in which order, boxes at other thresholds, one picture large in a dialog.
const pictures = [...document.querySelectorAll("#pictures .pic")];
const FIRST = innerWidth < 640 ? 2 : 6, MORE = 12;
let room = FIRST;

const classOf = (box) => /\bk(\d+)\b/.exec(box.getAttribute("class"))[1];
const count = (picture, kind, of) => picture.querySelectorAll(`.box.${kind}${of ? ".k" + of : ""}:not(.off)`).length;

// thresholds: {class number: score}, for those that differ from what the page was made with
function drawAt(thresholds) {
  for (const box of document.querySelectorAll(".shot .box")) {
    const least = thresholds[classOf(box)], score = parseFloat(box.dataset.s ?? "-1");
    if (least === undefined || box.closest("#suspects")) continue;
    if (box.matches(".true, .missed")) {
      box.classList.toggle("true", score >= least);
      box.classList.toggle("missed", score < least);
    } else if (box.matches(".right, .false")) box.classList.toggle("off", score < least);
  }
  for (const picture of pictures) {
    const [right, wrong, missed] = ["right", "false", "missed"].map((kind) => count(picture, kind));
    picture.querySelector(".state").textContent = `${right} right, ${wrong} false, ${missed} missed`;
  }
  for (const tag of document.querySelectorAll("#pictures .tag")) tag.remove();
  choose();
}

function choose() {
  const form = document.getElementById("filters");
  if (!form) return;
  const what = form.elements.what.value, of = form.elements.class?.value ?? "", order = form.elements.order.value;
  const fits = (picture) => {
    if (what === "all") return !of || picture.querySelector(`.box.k${of}:not(.off)`);
    if (what === "suspect") return picture.dataset.suspects > 0 && (!of || picture.querySelector(`.box.k${of}:not(.off)`));
    if (what === "clean") return !count(picture, "false", of) && !count(picture, "missed", of);
    return count(picture, what, of);
  };
  const name = (picture) => picture.querySelector(".file").textContent;
  const best = (picture) => Math.max(0, ...[...picture.querySelectorAll(`.box.false${of ? ".k" + of : ""}:not(.off)`)].map((b) => b.dataset.s));
  const errors = (picture) => count(picture, "false", of) + count(picture, "missed", of);
  const worth = { errors, score: best, right: (picture) => count(picture, "right", of) }[order];
  const found = pictures.filter(fits);
  const value = new Map(found.map((picture) => [picture, worth ? worth(picture) : 0]));
  found.sort((a, b) => value.get(b) - value.get(a) || name(a).localeCompare(name(b)));
  for (const picture of pictures) picture.hidden = true;
  found.slice(0, room).forEach((picture) => (picture.hidden = false));
  document.getElementById("pictures").append(...found);
  form.querySelector("output").textContent = `${found.length} of ${pictures.length} pictures`;
  document.getElementById("more").hidden = found.length <= room;
}

document.getElementById("filters")?.addEventListener("input", () => { room = FIRST; choose(); });
document.getElementById("filters")?.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("more")?.addEventListener("click", () => { room += MORE; choose(); });
choose();

const dialog = document.getElementById("large");
let opener;
function enlarge(button) {
  opener = button;
  const place = dialog.querySelector("div"), figure = button.closest("figure");
  place.replaceChildren(figure.querySelector("svg").cloneNode(true), figure.querySelector("figcaption").cloneNode(true));
  if (!dialog.open) dialog.showModal();
}
function step(by) {
  const all = [...opener.closest(".shots").querySelectorAll("figure:not([hidden]) .frame button")];
  enlarge(all[(all.indexOf(opener) + by + all.length) % all.length]);
}
if (dialog) {
  for (const frame of document.querySelectorAll(".frame")) frame.addEventListener("click", () => enlarge(frame.querySelector("button")));
  dialog.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step))));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => opener.focus());
}
