/** The part of crc-32 that is used; the package describes its other file alone. */
declare module 'crc-32/crc32c.js' {
  const crc32c: {
    /** The checksum, as a signed integer, of what `seed` is that of and `bytes`. */
    buf(bytes: Uint8Array, seed?: number): number
  }
  export default crc32c
}
