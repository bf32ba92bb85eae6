// Drawing on a canvas, for every page.

// A clear canvas at the screen's own resolution, drawn on in CSS pixels.
export function context(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return pen;
}

export function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

export function dot(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 2.2, 0, 2 * Math.PI);
  pen.fill();
}

// The next of 1, 2, 5 × 10^k.
export function tick(least) {
  const decade = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((each) => each * decade >= least) * decade;
}
