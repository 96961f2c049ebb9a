// What the player and the live view share.
export const $ = (id) => document.getElementById(id);
export const CHUNK = 64; // maps per request
export const limits = {}; // from the server: limits, colors of the heat map

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

export function showProblem(id, text) {
  $(id).textContent = text;
  $(id).hidden = !text;
}

// Makes a canvas as sharp as the screen.
export function sizeCanvas(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2), width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return canvas;
}

const small = document.createElement("canvas");

// Draws a map {width, height, data}, 0 to 255, over a whole canvas: kind "overlay" in the colors and opacities of the
// overlay video, kind "map" in gray.
export function drawHeat(canvas, map, kind, opacity) {
  sizeCanvas(canvas);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!map || !canvas.width || !canvas.height) return;
  small.width = map.width;
  small.height = map.height;
  const smallContext = small.getContext("2d"), picture = smallContext.createImageData(map.width, map.height), pixels = picture.data;
  for (let i = 0, j = 0; i < map.data.length; i++, j += 4) {
    const value = map.data[i];
    if (kind === "map") { pixels[j] = pixels[j + 1] = pixels[j + 2] = value; pixels[j + 3] = 255; continue; }
    const [red, green, blue] = limits.colors[value];
    pixels[j] = red; pixels[j + 1] = green; pixels[j + 2] = blue;
    pixels[j + 3] = Math.min(255, 255 * opacity * limits.most_opaque * (1 - (1 - value / 255) ** 2));
  }
  smallContext.putImageData(picture, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}
