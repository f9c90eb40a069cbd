/** CRC32C (Castagnoli), which is not the CRC-32 of zlib, as it goes over the wire. */
/// <reference path="./crc-32.d.ts" />
import crc32c from 'crc-32/crc32c.js'

/** Sums up what it is given piece by piece. */
export function crc32cSum() {
  let sum = 0
  return {
    add(bytes: Uint8Array): void {
      sum = crc32c.buf(bytes, sum)
    },
    /** Base64 of the four bytes, the highest first. */
    text(): string {
      return btoa(String.fromCharCode((sum >>> 24) & 255, (sum >>> 16) & 255, (sum >>> 8) & 255, sum & 255))
    },
  }
}
