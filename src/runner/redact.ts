/** What a runner keeps out of all that it writes (`contract/redaction.ts`), as far as it can know it. */

/** Of what is secret by its name alone: shorter values are often ordinary words. */
const GUESSED_CHARACTERS_MIN = 8

const SECRET_NAME =
  /(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|KEY|CREDENTIALS?|PAT)(_|$)|API_?KEY|SECRET|TOKEN$|PASSWORD$/i

/** The values of variables whose names say that they are secret. */
export function secretsIn(variables: Record<string, string | undefined>): string[] {
  return Object.entries(variables).flatMap(([name, value]) =>
    value !== undefined && value.length >= GUESSED_CHARACTERS_MIN && SECRET_NAME.test(name) ? [value] : [],
  )
}

/** The password or token inside `https://user:password@host/…`, as written and decoded. */
export function secretsOfUrl(url: string): string[] {
  const userinfo = /^[a-z][a-z0-9+.-]*:\/\/([^@/]*)@/i.exec(url)?.[1]
  if (userinfo === undefined) return []
  const secret = userinfo.slice(userinfo.indexOf(':') + 1)
  return [...new Set([secret, safeDecode(secret)])]
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
