// Images as they are sent, and as they are shown.

let made = 0;

/** An image: `url` is what is sent, `shown` what the browser shows, `width` x `height` its upright size in pixels. */
export async function readPicture(blob, name, api) {
  const url = await dataUrl(blob);
  let shown = URL.createObjectURL(blob);
  let size = await sizeOf(shown);
  if (!size) {
    URL.revokeObjectURL(shown);
    shown = URL.createObjectURL(await api.preview(blob));
    size = await sizeOf(shown);
  }
  made += 1;
  return { id: made, name, url, shown, questions: [], ...size };
}

/** The first image file of a paste or a drop; null: there is none. */
export function imageFile(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/") || /\.(tiff?|jp2|p[pgn]m)$/i.test(file.name)) ?? null;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      const type = /^image\/[\w.+-]+$/.test(blob.type) ? blob.type : "application/octet-stream";
      resolve(`data:${type};base64,${reader.result.slice(reader.result.indexOf(",") + 1)}`);
    };
    reader.onerror = () => reject(new Error(`the file cannot be read: ${reader.error.message}`));
    reader.readAsDataURL(blob);
  });
}

function sizeOf(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve({ width: image.naturalWidth, height: image.naturalHeight });
    image.onerror = () => resolve(null);
    image.src = url;
  });
}
