// A zip file of chosen files, stored without compression: images do not get smaller. The files stay on the disk.

const MOST_FILES = 65_535; // of a zip without its 64-bit form
const MOST_BYTES = 4 * 2 ** 30 - 1;
const TABLE = Uint32Array.from({ length: 256 }, (_, at) => {
  let value = at;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** Return the zip of [{name, file}, ...] as a Blob; `onProgress(share)` follows the reading. Throws an Error for the user. */
export async function zipOf(entries, onProgress, signal) {
  if (entries.length > MOST_FILES) throw new Error(`A folder may have ${MOST_FILES} files here. Got ${entries.length}. Zip it yourself.`);
  const parts = [];
  const list = [];
  let at = 0;
  for (const [number, { name, file }] of [...entries].sort((a, b) => (a.name < b.name ? -1 : 1)).entries()) {
    signal?.throwIfAborted();
    const path = new TextEncoder().encode(name);
    const fields = [20, 0x800, 0, 0, 0x21]; // version, names in UTF-8, stored, midnight of 1 January 1980
    const sizes = [crc32(new Uint8Array(await file.arrayBuffer())), file.size, file.size];
    const head = packed(0x04034b50, fields, sizes, [path.length, 0]);
    list.push(packed(0x02014b50, [20, ...fields], sizes, [path.length, 0, 0, 0, 0], [0, at]), path);
    parts.push(head, path, file);
    at += head.length + path.length + file.size;
    onProgress((number + 1) / entries.length);
  }
  const size = list.reduce((sum, part) => sum + part.length, 0);
  if (at + size > MOST_BYTES) throw new Error("A folder may have 4 GiB. Split it.");
  const end = packed(0x06054b50, [0, 0, entries.length, entries.length], [size, at], [0]);
  return new Blob([...parts, ...list, end], { type: "application/zip" });
}

/** Return the CRC-32 of bytes. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** Return a signature and groups of numbers, of 16 and 32 bits in turn, as little-endian bytes. */
function packed(signature, ...groups) {
  const bytes = new DataView(new ArrayBuffer(4 + groups.reduce((sum, group, turn) => sum + group.length * (turn % 2 ? 4 : 2), 0)));
  bytes.setUint32(0, signature, true);
  let at = 4;
  for (const [turn, group] of groups.entries())
    for (const value of group) {
      if (turn % 2) bytes.setUint32(at, value, true);
      else bytes.setUint16(at, value, true);
      at += turn % 2 ? 4 : 2;
    }
  return new Uint8Array(bytes.buffer);
}
