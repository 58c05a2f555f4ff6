// Line and scatter charts as inline SVG. A series: {name, color, dashed, thick, points: [{x, y, low, high, title}]}.
const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 1000, height: 480, left: 62, right: 18, top: 14, bottom: 46 };
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7b3fa0", "#a0522d", "#3b7a57", "#b0305c"];

function element(name, attributes = {}, children = []) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  for (const child of [].concat(children)) node.append(child);
  return node;
}

function html(name, attributes = {}, children = []) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false) node.setAttribute(key, value);
  }
  for (const child of [].concat(children)) node.append(child);
  return node;
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of [1, 2, 5]) ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  const found = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return found.length > 12 ? found.filter((tick) => /^0*\.?0*1/.test(String(tick))) : found;
}

// {to: value -> pixel, ticks}; padded a little, so that no dot lies on the frame.
function axis(values, log, from, to) {
  const change = log ? Math.log : (value) => value;
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (change(high) - change(low)) * 0.03 || Math.abs(change(high)) * 0.1 || 1;
  const first = change(low) - margin, last = change(high) + margin;
  const back = log ? Math.exp : (value) => value;
  return {
    to: (value) => from + ((change(value) - first) / (last - first)) * (to - from),
    ticks: log ? logTicks(back(first), back(last)) : niceTicks(first, last, 8),
  };
}

function drawPlot(series, options) {
  const { width, height, left, right, top, bottom } = PLOT;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": options.label });
  const points = series.flatMap((line) => line.points);
  if (!points.length) {
    svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show: tick a codec"));
    return svg;
  }
  const x = axis(points.map((point) => point.x), options.xLog, left, width - right);
  const y = axis(points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]), options.yLog, height - bottom, top);
  for (const tick of x.ticks) {
    svg.append(element("line", { class: "grid", x1: x.to(tick), x2: x.to(tick), y1: top, y2: height - bottom }));
    svg.append(element("text", { x: x.to(tick), y: height - bottom + 17, "text-anchor": "middle" }, String(tick)));
  }
  for (const tick of y.ticks) {
    svg.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y.to(tick), y2: y.to(tick) }));
    svg.append(element("text", { x: left - 8, y: y.to(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  svg.append(element("rect", { class: "frame", x: left, y: top, width: width - left - right, height: height - top - bottom }));
  svg.append(element("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, options.xLabel));
  const middle = (top + height - bottom) / 2;
  svg.append(element("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, options.yLabel));
  for (const line of series) svg.append(drawSeries(line, x, y, options));
  return svg;
}

function drawSeries(line, x, y, options) {
  const group = element("g", { "data-series": line.name });
  const place = (point, value) => `${x.to(point.x).toFixed(1)},${y.to(value).toFixed(1)}`;
  const banded = line.points.filter((point) => point.low != null && point.high != null);
  if (options.bands && banded.length > 1) {
    const outline = [...banded.map((p) => place(p, p.high)), ...banded.toReversed().map((p) => place(p, p.low))];
    group.append(element("polygon", { class: "band", points: outline.join(" "), fill: line.color, opacity: 0.07 }));
  }
  if (!options.scatter) {
    const path = line.points.map((point) => place(point, point.y)).join(" ");
    const style = { fill: "none", stroke: line.color, "stroke-width": line.thick ? 3.2 : 1.7 };
    if (line.dashed) style["stroke-dasharray"] = line.dashed;
    group.append(element("polyline", { points: path, ...style }));
  }
  for (const point of line.points) {
    const radius = options.scatter ? 6 : line.dashed ? 2 : 3.4;
    const dot = element("circle", { cx: x.to(point.x), cy: y.to(point.y), r: radius, fill: line.color });
    dot.append(element("title", {}, point.title));
    group.append(dot);
    if (options.scatter) {
      const end = x.to(point.x) > PLOT.width * 0.8;
      const at = { x: x.to(point.x) + (end ? -10 : 10), y: y.to(point.y) + 4, "text-anchor": end ? "end" : "start" };
      group.append(element("text", at, line.name));
    }
  }
  return group;
}
