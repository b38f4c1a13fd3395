// Uploads that go on where they stopped: tus 1.0.0, in pieces. The page remembers the last one in this tab.

import { request } from "./api.js";

const KEY = "finetuner-upload";
const PIECE = 4 * 2 ** 20; // bytes; what has arrived stays when the connection breaks
const VERSION = { "Tus-Resumable": "1.0.0" };
const BROKEN = [0, 409, 429, 500, 502, 503, 504];

/**
 * Send a Blob, and return the id of its upload.
 *
 * `metadata` are dataset, filename, as, columns, on_error. `mark` tells this file from others: a file that was begun in
 * this tab goes on. `onProgress(bytes)` follows.
 */
export async function sendFile(blob, metadata, mark, onProgress, signal) {
  let id = remembered(mark);
  let offset = id ? await arrived(id, signal) : undefined;
  if (offset === undefined) {
    id = await begin(blob, metadata, signal);
    offset = 0;
    sessionStorage.setItem(KEY, JSON.stringify({ mark, id }));
  }
  onProgress(offset);
  while (offset < blob.size) {
    signal.throwIfAborted();
    try {
      const headers = { ...VERSION, "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset) };
      const answer = await request(`/v1/uploads/${id}`, { method: "PATCH", headers, body: blob.slice(offset, offset + PIECE), signal });
      offset = +answer.headers.get("Upload-Offset");
    } catch (error) {
      signal.throwIfAborted();
      if (!BROKEN.includes(error.status)) throw error;
      offset = await arrived(id, signal); // waits until the server answers
      if (offset === undefined) throw error;
    }
    onProgress(offset);
  }
  return id;
}

/** Return the bytes of an upload that have arrived, undefined for an upload that is gone. */
export async function arrived(id, signal) {
  try {
    const answer = await request(`/v1/uploads/${encodeURIComponent(id)}`, { method: "HEAD", headers: VERSION, again: true, signal });
    return +answer.headers.get("Upload-Offset");
  } catch (error) {
    if (error.status !== 404 && error.status !== 422) throw error;
    return undefined;
  }
}

/** Remove an upload. */
export async function throwAway(id) {
  sessionStorage.removeItem(KEY);
  await request(`/v1/uploads/${encodeURIComponent(id)}`, { method: "DELETE", headers: VERSION });
}

async function begin(blob, metadata, signal) {
  const pairs = Object.entries(metadata).filter(([, value]) => value);
  const headers = {
    ...VERSION,
    "Upload-Length": String(blob.size),
    "Upload-Metadata": pairs.map(([name, value]) => `${name} ${btoa(String.fromCharCode(...new TextEncoder().encode(value)))}`).join(","),
  };
  const { upload } = await request("/v1/uploads", { method: "POST", headers, signal, read: (response) => response.json() });
  return upload;
}

function remembered(mark) {
  try {
    const known = JSON.parse(sessionStorage.getItem(KEY));
    return known?.mark === mark ? known.id : undefined;
  } catch {
    return undefined;
  }
}
