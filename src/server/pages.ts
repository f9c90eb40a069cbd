/**
 * The web page's files, as the build left them: names with a hash are kept for ever, all else is asked about again.
 * Paths without a file name are the page's own routes and answer with its index.
 */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { extname, join, normalize, sep } from 'node:path'

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.webp': 'image/webp',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
  '.map': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.wasm': 'application/wasm',
}

export const PAGE_HEADERS: Record<string, string> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
    "manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'; require-trusted-types-for 'script'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=()',
}

export type Page = { status: number; headers: Record<string, string>; body: string | Uint8Array<ArrayBuffer> | null }

export type PageAsk = { path: string; accept: string; if_none_match: string | undefined }

export async function findPage(web_dir: string | null, ask: PageAsk): Promise<Page | null> {
  if (web_dir === null || !(await isFile(join(web_dir, 'index.html')))) return acceptsHtml(ask) ? notBuilt() : null
  const wanted = placeOf(web_dir, ask.path)
  if (wanted !== null && (await isFile(wanted))) return sendFile(wanted, ask)
  // A missing file is missing; only a page's own route falls back to the index.
  if (wanted === null || extname(ask.path) !== '' || !acceptsHtml(ask)) return null
  return sendFile(join(web_dir, 'index.html'), ask)
}

/** Browsers say so; programs that ask for a path that is not there had better be told. */
const acceptsHtml = ({ path, accept }: PageAsk): boolean => path === '/' || accept.includes('text/html')

/** The file that a path stands for; null when it leads out of the folder or names something hidden. */
function placeOf(web_dir: string, path: string): string | null {
  let decoded: string
  try {
    decoded = decodeURIComponent(path)
  } catch {
    return null
  }
  if (decoded.includes('\0') || decoded.includes('\\') || decoded.split('/').some((part) => part.startsWith('.')))
    return null
  const place = normalize(join(web_dir, decoded))
  return place.startsWith(normalize(web_dir + sep)) ? place : null
}

async function sendFile(path: string, ask: PageAsk): Promise<Page> {
  const found = await stat(path)
  const version = createHash('sha256').update(`${found.size} ${found.mtimeMs} ${path}`).digest('base64url')
  const etag = `"${version.slice(0, 22)}"`
  const headers: Record<string, string> = {
    ...PAGE_HEADERS,
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'cache-control': /\/assets\/[^/]+-[\w-]{8,}\.\w+$/.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache',
    etag,
  }
  if (ask.if_none_match?.split(/\s*,\s*/).includes(etag)) return { status: 304, headers, body: null }
  return { status: 200, headers, body: new Uint8Array(await readFile(path)) }
}

function notBuilt(): Page {
  return {
    status: 200,
    headers: { ...PAGE_HEADERS, 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-cache' },
    body:
      '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Baton</title>' +
      '<h1>Baton is running</h1><p>The web page is not built here. Run <code>npm run build</code>, then start the server again.</p>' +
      '<p>The API answers: <a href="/reference">reference</a>, <a href="/openapi.json">openapi.json</a>.</p></html>',
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path)
    .then((found) => found.isFile())
    .catch(() => false)
}
