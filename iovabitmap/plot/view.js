// What an interactive view does in the browser, with Bokeh: draws the part of the log that is seen,
// and says what is under the pointer. Rows are exact, so any part is, however far it is magnified.
//
// epochs: start, end, and the latest end until then (reach). offsets: where each epoch's rows begin,
// and the end of the last one's. rows: first, count: runs of pages as positions on the axis,
// ascending within an epoch. breaks: position, high, low: where the axis jumps, and the number of the
// page there, in two halves.

const PIXELS = 2; // of the screen for a cell of the image: with one, rounding could leave some out
const MOST = 255; // the value of a cell that is all dirty; 0 is clean, and nothing else is

function firstWhere(length, is) {
  let low = 0, high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (is(middle)) high = middle; else low = middle + 1;
  }
  return low;
}

// An epoch's first row that ends above a position.
function rowAbove(log, epoch, position) {
  const {first, count} = log.rows, begin = log.offsets[epoch];
  const rows = log.offsets[epoch + 1] - begin;
  return begin + firstWhere(rows, (k) => first[begin + k] + count[begin + k] > position);
}

// Adds the rows of the epochs that are seen: into `sums` the part of each cell that is dirty, epoch
// by epoch, and into `epochs` how many there are of each column.
function add(log, seen, sums, epochs) {
  const {start, end, reach} = log.epochs, {first, count} = log.rows;
  const {x, y, dx, dy, width, height} = seen;
  const last = x + width * dx, top = y + height * dy;
  for (let n = firstWhere(start.length, (k) => reach[k] > x); n < start.length && start[n] < last; n++) {
    if (end[n] <= x) continue;
    const left = Math.max(0, Math.floor((start[n] - x) / dx));
    const right = Math.min(width, Math.max(left + 1, Math.ceil((end[n] - x) / dx)));
    for (let column = left; column < right; column++) epochs[column]++;
    for (let row = rowAbove(log, n, y); row < log.offsets[n + 1] && first[row] < top; row++) {
      const low = Math.max(0, (first[row] - y) / dy);
      const high = Math.min(height, (first[row] + count[row] - y) / dy);
      for (let line = Math.floor(low); line < high; line++) {
        const part = Math.min(high, line + 1) - Math.max(low, line);
        for (let column = left; column < right; column++) sums[line * width + column] += part;
      }
    }
  }
}

// Fills the image, of which a part may be used: its cells are never smaller than on the screen.
function draw(log, figure, source) {
  const image = source.data.image[0], [lines, columns] = image.shape;
  const x0 = Math.max(0, figure.x_range.start), x1 = Math.min(log.end, figure.x_range.end);
  const y0 = Math.max(0, figure.y_range.start), y1 = Math.min(log.size, figure.y_range.end);
  image.fill(0);
  if (x1 > x0 && y1 > y0) {
    const width = Math.max(1, Math.min(columns, Math.floor((figure.inner_width || 800) / PIXELS)));
    let height = Math.max(1, Math.min(lines, Math.floor((figure.inner_height || 400) / PIXELS)));
    const seen = {x: x0, y: y0, dx: (x1 - x0) / width, dy: (y1 - y0) / height, width, height};
    if (seen.dy < 1) { // a line for each page, on its place
      seen.y = Math.floor(y0);
      seen.dy = 1;
      seen.height = Math.min(lines, Math.ceil(y1) - seen.y);
    }
    const sums = new Float64Array(width * seen.height), epochs = new Uint32Array(width);
    add(log, seen, sums, epochs);
    for (let line = 0; line < seen.height; line++) {
      for (let column = 0; column < width; column++) {
        const part = sums[line * width + column] / epochs[column];
        if (part > 0) image[line * columns + column] = 1 + Math.round((MOST - 1) * Math.sqrt(Math.min(1, part)));
      }
    }
    Object.assign(source.data, {x: [seen.x], y: [seen.y], dw: [columns * seen.dx], dh: [lines * seen.dy]});
  }
  source.change.emit();
}

// The address at a position of the axis.
function address(log, position) {
  const {position: at, high, low} = log.breaks;
  const n = Math.max(0, firstWhere(at.length, (k) => at[k] > position) - 1);
  const page = (BigInt(high[n]) << 32n) + BigInt(low[n]) + BigInt(Math.floor(position - at[n]));
  return `0x${(BigInt(log.iova) + page * BigInt(log.page_size)).toString(16)}`;
}

// What is at a point, in words; of the log as a whole outside of it.
function words(log, x, y) {
  const {start, end} = log.epochs, {first} = log.rows;
  const n = firstWhere(start.length, (k) => start[k] > x) - 1;
  if (!(y >= 0 && y < log.size) || n < 0 || x >= end[n]) return log.hint;
  const row = rowAbove(log, n, y);
  const dirty = row < log.offsets[n + 1] && first[row] <= y;
  return `epoch ${n * log.epochs_each}, page ${address(log, Math.floor(y))}: ${dirty ? "dirty" : "clean"}`;
}
