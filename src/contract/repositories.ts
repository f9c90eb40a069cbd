/** Addresses of git repositories: which are taken, who owns them, and how they are shown. */

const SCP = /^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?![/]{2})[^\s:-][^\s]*$/
const REMOTE = /^(https|ssh):\/\/([^\s/@-][^\s/@]*@)?[A-Za-z0-9[][^\s/@]*\/[^\s]+$/

/** `local`: a path of the machine's own disk. Null for what git must never be given. */
export function addressKind(url: string): 'local' | 'remote' | null {
  if (/[\p{Cc}]/u.test(url)) return null
  if (url.startsWith('/') || url.startsWith('file:///')) return 'local'
  return REMOTE.test(url) || SCP.test(url) ? 'remote' : null
}

/** The rules of `git check-ref-format --allow-onelevel`, and nothing that git could take for an option or a range. */
export function isRef(ref: string): boolean {
  if (/[\p{Cc}\s~^:?*[\\]/u.test(ref) || ref.includes('..') || ref.includes('@{') || ref.includes('//') || ref === '@')
    return false
  if (ref.startsWith('-') || ref.startsWith('/') || ref.endsWith('/') || ref.endsWith('.')) return false
  return ref.split('/').every((part) => !part.startsWith('.') && !part.endsWith('.lock'))
}

export const withoutSecret = (url: string): string => url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^@/]*@/i, '$1')

/** The last two parts of its path, such as `octo` and `tools`; each empty where there is none. */
export function ownerAndName(url: string): { owner: string; name: string } {
  const parts = url
    .replace(/\/+$/, '')
    .replace(/\.git$/, '')
    .split(/[/:]/)
  return { owner: parts.at(-2) ?? '', name: parts.at(-1) ?? '' }
}
