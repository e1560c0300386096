// The score threshold: numbers of one class or of all at the slider's score, and the pictures at it.
const form = document.getElementById("slider");
if (form) {
  const data = JSON.parse(document.getElementById("threshold-data").textContent);
  const last = data.classes.length - 1;
  const { class: which, score: slider, shown, back } = form.elements;
  const chosen = {};
  const format = (value, place, sign) => (place === 3 ? (sign && value > 0 ? "+" : "") + value.toFixed(2) : value.toFixed(3));
  const storedOf = (of) => (of === last ? null : data.stored[data.numbers[of]]);
  const show = () => {
    const at = Math.round(slider.value * 100), of = Number(which.value), stored = storedOf(of);
    shown.textContent = `${Number(slider.value).toFixed(2)} (stored: ${stored === null ? "each class its own" : stored.toFixed(3)})`;
    data.columns[of].forEach((column, place) => {
      const one = column[at];
      form.querySelector(`[data-value="${place}"]`).textContent = one ? format(one[0], place, true) : "n/a";
      form.querySelector(`[data-range="${place}"]`).textContent = one ? `${format(one[1], place, true)} to ${format(one[2], place, true)}` : "";
    });
    const store = document.getElementById("store"), value = Number(slider.value).toFixed(2);
    if (store) store.textContent = `${store.dataset.command} ${of === last ? value : `"${data.classes[of]}=${value}"`}`;
  };
  const go = (of) => { slider.value = chosen[data.numbers[of]] ?? storedOf(of) ?? data.start; show(); };
  slider.addEventListener("input", () => {
    const of = Number(which.value), all = data.stored.map((_, k) => k);
    for (const k of of === last ? all : [data.numbers[of]]) chosen[k] = Number(slider.value);
    show();
    drawAt(chosen);
  });
  which.addEventListener("input", () => go(Number(which.value)));
  back.addEventListener("click", () => {
    data.stored.forEach((value, k) => (chosen[k] = value));
    drawAt(chosen);
    go(Number(which.value));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
