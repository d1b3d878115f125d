// An imagined picture without its black background, to lie over the live one.

const OPAQUE = 120; // brightness from which a pixel counts as covered by Gaussians

export function drawOverlay(canvas, image) {
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const c = canvas.getContext("2d", { willReadFrequently: true });
  c.drawImage(image, 0, 0);
  const pixels = c.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  for (let k = 0; k < data.length; k += 4) {
    // the picture was rendered over black: its colours have their opacity in them already
    const share = Math.min(1, Math.max(data[k], data[k + 1], data[k + 2]) / OPAQUE);
    for (let i = k; i < k + 3; i += 1) data[i] /= share || 1;
    data[k + 3] = 255 * share;
  }
  c.putImageData(pixels, 0, 0);
}
