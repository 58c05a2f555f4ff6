const data = JSON.parse(document.getElementById("data").textContent);
const OURS = "FlowCodec";

function short(value) {
  return value == null ? "–" : String(Number(value.toPrecision(5)));
}

// One colour for a name on the whole page; ours is black.
const colorOf = (() => {
  const known = new Map([[OURS, "#111111"]]);
  let next = 0;
  return (name) => {
    if (!known.has(name)) known.set(name, COLORS[next++ % COLORS.length]);
    return known.get(name);
  };
})();

function select(label, choices, onchange) {
  const list = html("select", { onchange, "aria-label": label });
  for (const [value, text] of choices) list.append(html("option", { value }, text));
  return { list, labelled: html("label", {}, [`${label} `, list]) };
}

function tick(label, checked, onchange) {
  const box = html("input", { type: "checkbox", onchange });
  box.checked = checked;
  return { box, labelled: html("label", {}, [box, ` ${label}`]) };
}

function legend(series, hidden, redraw) {
  const node = html("div", { class: "legend" });
  for (const line of series) {
    const box = html("input", { type: "checkbox", "data-codec": line.name });
    box.checked = !hidden.has(line.name);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(line.name);
      else hidden.add(line.name);
      redraw();
    });
    const stroke = { x1: 0, x2: 22, y1: 6, y2: 6, stroke: line.color, "stroke-width": line.thick ? 3.2 : 2 };
    if (line.dashed) stroke["stroke-dasharray"] = line.dashed;
    const text = line.dashed ? `${line.name} (published)` : line.name;
    node.append(html("label", {}, [box, element("svg", { width: 22, height: 12 }, element("line", stroke)), text]));
  }
  return node;
}

// Published curves are grey, each with its own dashes.
const DASHES = ["9 4", "2 3", "9 3 2 3", "4 4", "14 4"];
const dashesOf = (() => {
  const known = [];
  return (name) => DASHES[(known.includes(name) ? known.indexOf(name) : known.push(name) - 1) % DASHES.length];
})();

function styled(name, published) {
  return { name, color: published ? "#6b7682" : colorOf(name), dashed: published && dashesOf(name), thick: name === OURS };
}

function curveSeries(curve, metric) {
  const points = [];
  curve.bpp.forEach((bpp, k) => {
    const y = curve[metric]?.[k];
    if (y == null) return;
    const setting = curve.settings ? `, setting ${short(curve.settings[k])}` : ", published";
    const band = curve.bands?.[metric];
    const title = `${curve.name}${setting}: ${short(bpp)} bpp, ${short(y)}\n${curve.at}/${metric}/${k}`;
    points.push({ x: bpp, y, low: band?.low[k], high: band?.high[k], title });
  });
  return { ...styled(curve.name, curve.kind === "published"), points };
}

function curvesChart(box, dataset) {
  const hidden = new Set(dataset.curves.filter((curve) => /\(dither\)/.test(curve.name)).map((curve) => curve.name));
  const metric = select("measure", Object.entries(dataset.metrics), draw);
  const log = tick("logarithmic rate", true, draw);
  const bands = tick("95 % bands over images", true, draw);
  const plot = html("div");
  const keys = html("div");
  box.append(html("div", { class: "controls" }, [metric.labelled, log.labelled, bands.labelled]), keys, plot);
  function draw() {
    const series = dataset.curves.map((curve) => curveSeries(curve, metric.list.value)).filter((line) => line.points.length);
    keys.replaceChildren(legend(series, hidden, draw));
    const shown = series.filter((line) => !hidden.has(line.name)).sort((a, b) => a.thick - b.thick);
    const yLabel = dataset.metrics[metric.list.value];
    const label = `${yLabel} over rate, ${dataset.name}`;
    plot.replaceChildren(drawPlot(shown, { xLog: log.box.checked, xLabel: "bits per pixel (whole files)", yLabel, label, bands: bands.box.checked }));
  }
  draw();
}

function speedChart(box, dataset) {
  if (!dataset.speed.length) {
    box.append(html("p", {}, "No codec has both times and a BD-rate over the widest window."));
    return;
  }
  const side = select("time to", [["decode_cpu_s_per_megapixel", "decode"], ["encode_cpu_s_per_megapixel", "encode"]], draw);
  const plot = html("div");
  box.append(html("div", { class: "controls" }, side.labelled), plot);
  function draw() {
    const key = side.list.value;
    const series = dataset.speed.map((entry) => {
      const title = `${entry.codec}: ${short(entry[key])} s per megapixel, BD-rate ${short(entry.bd_rate)} %\n${entry.at}/${key}`;
      return { ...styled(entry.codec, false), points: [{ x: entry[key], y: entry.bd_rate, title }] };
    });
    const xLabel = "CPU seconds per megapixel, median over images and rates";
    plot.replaceChildren(drawPlot(series, { scatter: true, xLog: true, xLabel, yLabel: "BD-rate (%), lower is better", label: "speed against BD-rate" }));
  }
  draw();
}

function imageChart(box, dataset) {
  const hidden = new Set();
  const image = select("image", dataset.images.map((name) => [name, name]), draw);
  const metrics = Object.entries(dataset.metrics).filter(([key]) => dataset.rows.some((group) => group[key]));
  const metric = select("measure", metrics, draw);
  const keys = html("div"), plot = html("div"), failed = html("p", { class: "failed" });
  box.append(html("div", { class: "controls" }, [image.labelled, metric.labelled]), keys, plot, failed);
  function draw() {
    const groups = dataset.rows.filter((group) => group.image === image.list.value);
    const series = groups.map((group) => ({ ...styled(group.codec, false), points: rowPoints(group, metric.list.value) }));
    const found = series.filter((line) => line.points.length);
    keys.replaceChildren(legend(found, hidden, draw));
    const shown = found.filter((line) => !hidden.has(line.name)).sort((a, b) => a.thick - b.thick);
    const label = `${image.list.value}: ${dataset.metrics[metric.list.value]} over rate`;
    plot.replaceChildren(drawPlot(shown, { xLog: true, xLabel: "bits per pixel", yLabel: dataset.metrics[metric.list.value], label }));
    const errors = groups.flatMap((group) => (group.errors ?? []).map((entry) => `${group.codec} at ${entry.setting}: ${entry.error}`));
    failed.textContent = errors.length ? `failed: ${errors.join("; ")}` : "";
  }
  draw();
}

function rowPoints(group, metric) {
  const points = [];
  group.bpp.forEach((bpp, k) => {
    const y = group[metric]?.[k];
    if (y == null) return;
    const title = `${group.codec}, setting ${short(group.setting[k])}: ${short(bpp)} bpp, ${short(y)}\n${group.file}#/rows/${group.row[k]}/${metric}`;
    points.push({ x: bpp, y, title });
  });
  return points.sort((a, b) => a.x - b.x);
}

function generationsChart(box, entry) {
  const hidden = new Set();
  const what = select("show", [["psnr_db", "PSNR (dB)"], ["relative_size", "size, relative to the first file"]], draw);
  const keys = html("div"), plot = html("div");
  box.append(html("div", { class: "controls" }, what.labelled), keys, plot);
  function draw() {
    const series = Object.entries(entry.codecs).map(([name, means]) => {
      const values = means[what.list.value];
      const points = values.map((y, k) => ({ x: k + 1, y, title: `${name}, generation ${k + 1}: ${short(y)}\n${means.at}/${what.list.value}/${k}` }));
      return { ...styled(name, false), points };
    });
    keys.replaceChildren(legend(series, hidden, draw));
    const yLabel = what.list.selectedOptions[0].textContent;
    plot.replaceChildren(drawPlot(series.filter((line) => !hidden.has(line.name)), { xLabel: "generation", yLabel, label: `${yLabel} per generation` }));
  }
  draw();
}

// The decode of ``codec`` nearest in rate (as a ratio) to ``bpp``; the original for the empty name.
function nearest(image, codec, bpp) {
  if (!codec) return { uri: image.original, text: "original" };
  const found = image.decodes.filter((entry) => entry.codec === codec);
  const best = found.reduce((a, b) => (Math.abs(Math.log(b.bpp / bpp)) < Math.abs(Math.log(a.bpp / bpp)) ? b : a));
  return { uri: best.uri, text: `${codec}, setting ${short(best.setting)}: ${best.bpp.toFixed(3)} bpp, ${best.psnr_db?.toFixed(2) ?? "–"} dB` };
}

function slider(box, images) {
  const names = Object.keys(images);
  const image = select("image", names.map((name) => [name, name]), fill);
  const left = select("left", [], draw), right = select("right", [], draw);
  const rate = select("near", [["0.15", "0.15 bpp"], ["0.35", "0.35 bpp"], ["0.8", "0.8 bpp"]], draw);
  rate.list.value = "0.35";
  const under = html("img", { alt: "right" }), over = html("img", { alt: "left" }), bar = html("div", { class: "bar" });
  const pair = html("div", { class: "pair" }, [under, over, bar]);
  const range = html("input", { type: "range", min: 0, max: 100, value: 50, step: 0.5, "aria-label": "where the two meet", oninput: split });
  const leftText = html("span"), rightText = html("span");
  const controls = html("div", { class: "controls" }, [image.labelled, rate.labelled, left.labelled, right.labelled]);
  const sides = html("div", { class: "sides" }, [leftText, rightText]);
  box.append(controls, sides, pair, range);
  pair.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const frame = pair.getBoundingClientRect();
    range.value = (100 * (event.clientX - frame.left)) / frame.width;
    split();
  });
  function fill() {
    const codecs = [...new Set(images[image.list.value].decodes.map((entry) => entry.codec))];
    for (const [list, preferred] of [[left.list, OURS], [right.list, "AVIF"]]) {
      const before = list.value || preferred;
      list.replaceChildren(html("option", { value: "" }, "original"), ...codecs.map((name) => html("option", { value: name }, name)));
      list.value = codecs.includes(before) ? before : (codecs[0] ?? "");
    }
    const [, , width, height] = images[image.list.value].crop;
    for (const node of [pair, sides]) node.style.width = `${2 * width}px`;
    pair.style.aspectRatio = `${width} / ${height}`;
    draw();
  }
  function draw() {
    const chosen = images[image.list.value];
    const shown = [left, right].map((side) => nearest(chosen, side.list.value, Number(rate.list.value)));
    [over.src, under.src] = shown.map((side) => side.uri);
    [leftText.textContent, rightText.textContent] = shown.map((side) => side.text);
    range.style.width = pair.style.width;
    split();
  }
  function split() {
    over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    bar.style.left = `calc(${range.value}% - 1px)`;
  }
  fill();
}

function filmTitle(line, k, value) {
  return `${line.codec}, setting ${short(line.setting[k])}: ${short(line.kbps[k])} kbit/s, ${short(value)}`;
}

function filmChart(box, entry) {
  const hidden = new Set();
  const film = select("film", entry.films.map((name) => [name, name]), draw);
  const metric = select("measure", Object.entries(entry.metrics), draw);
  const keys = html("div"), plot = html("div");
  box.append(html("div", { class: "controls" }, [film.labelled, metric.labelled]), keys, plot);
  function draw() {
    const key = metric.list.value;
    const series = entry.curves.filter((line) => line.film === film.list.value).map((line) => {
      const points = line[key].map((y, k) => ({ x: line.kbps[k], y, title: `${filmTitle(line, k, y)}\n${entry.file}#/rows/${line.row[k]}/${key}` }));
      return { ...styled(line.codec, false), points: points.filter((point) => point.y != null) };
    });
    keys.replaceChildren(legend(series, hidden, draw));
    const shown = series.filter((line) => !hidden.has(line.name)).sort((a, b) => a.thick - b.thick);
    const label = `${film.list.value}: ${entry.metrics[key]} over rate`;
    plot.replaceChildren(drawPlot(shown, { xLog: true, xLabel: "kbit/s (whole files)", yLabel: entry.metrics[key], label }));
  }
  draw();
}

function framesChart(box, entry) {
  const hidden = new Set();
  const most = Math.max(0, ...entry.curves.map((line) => line.kbps.length));
  const film = select("film", entry.films.map((name) => [name, name]), draw);
  const rate = select("setting", Array.from({ length: most }, (_, k) => [k, `${k + 1} of ${most}, from the smallest file`]), draw);
  const keys = html("div"), plot = html("div");
  box.append(html("div", { class: "controls" }, [film.labelled, rate.labelled]), keys, plot);
  rate.list.value = Math.floor(most / 2);
  function draw() {
    const k = Number(rate.list.value);
    const series = entry.curves.filter((line) => line.film === film.list.value && line.frames[k]).map((line) => {
      const at = `${entry.file}#/rows/${line.row[k]}/frames_psnr_yuv_db`;
      const points = line.frames[k].map((y, x) => ({ x, y, title: `${filmTitle(line, k, y)} dB, frame ${x}\n${at}/${x}` }));
      return { ...styled(line.codec, false), points };
    });
    keys.replaceChildren(legend(series, hidden, draw));
    const shown = series.filter((line) => !hidden.has(line.name)).sort((a, b) => a.thick - b.thick);
    plot.replaceChildren(drawPlot(shown, { xLabel: "frame", yLabel: "PSNR, YUV 6:1:1 (dB)", label: `${film.list.value}: PSNR over the frames` }));
  }
  draw();
}

const FILM_CHARTS = { film: filmChart, frames: framesChart };
const CHARTS = { curves: curvesChart, speed: speedChart, image: imageChart };
for (const box of document.querySelectorAll("[data-chart]")) {
  const number = Number(box.dataset.dataset);
  if (box.dataset.chart === "generations") generationsChart(box, data.generations[number]);
  else if (box.dataset.chart in FILM_CHARTS) FILM_CHARTS[box.dataset.chart](box, data.films[number]);
  else CHARTS[box.dataset.chart](box, data.datasets[number]);
}
if (document.getElementById("slider")) slider(document.getElementById("slider"), data.pictures.images);
