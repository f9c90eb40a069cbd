import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { makeRedactor } from '../src/contract/index.ts'
import { secretsIn, secretsOfUrl } from '../src/runner/redact.ts'

const secret = `bx-1.${randomBytes(16).toString('hex')}/+"\\ü`

const encodings: Record<string, (s: string) => string> = {
  'as it is': (s) => s,
  base64: (s) => Buffer.from(s).toString('base64'),
  'base64 behind one byte': (s) => Buffer.from(`x${s}`).toString('base64'),
  'base64 behind two bytes and before more': (s) => Buffer.from(`xy${s} and more`).toString('base64'),
  base64url: (s) => Buffer.from(`user:${s}`).toString('base64url'),
  hex: (s) => Buffer.from(s).toString('hex'),
  'upper case hex': (s) => Buffer.from(s).toString('hex').toUpperCase(),
  'URL-encoded': (s) => encodeURIComponent(s),
  'JSON-escaped': (s) => JSON.stringify({ token: s }),
  reversed: (s) => [...s].reverse().join(''),
}

/** Any eight characters of the encoded secret in a row would be a leak worth finding. */
const leaks = (encoded: string, output: string, margin: number) => {
  const core = encoded.slice(margin, encoded.length - margin)
  for (let at = 0; at + 12 <= core.length; at++) if (output.includes(core.slice(at, at + 12))) return true
  return false
}

describe('the redactor', () => {
  test.each(Object.entries(encodings))('finds a secret %s', (_name, encode) => {
    const encoded = encode(secret)
    const output = makeRedactor([secret]).text(`before ${encoded} after`)
    expect(output).toContain('•••')
    expect(leaks(encoded, output, 16)).toBe(false)
    expect(output.startsWith('before ')).toBe(true)
    expect(output.endsWith(' after')).toBe(true)
  })

  test('finds it however the text is split into pieces, and loses nothing else', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.values(encodings)),
        fc.array(fc.nat(200), { maxLength: 12 }),
        fc.string({ maxLength: 40 }),
        (encode, cuts, around) => {
          const redactor = makeRedactor([secret])
          const whole = `${around}${encode(secret)}${around}`
          const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length]
          const stream = redactor.stream()
          const pieces = at.slice(1).map((to, i) => stream.push(whole.slice(at[i], to)))
          expect(pieces.join('') + stream.flush()).toBe(redactor.text(whole))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('finds secrets that begin with, hold or overlap others, however the text is split', () => {
    const url = 'postgres://app:hunter2hunter2@db/app'
    const several = ['postgres', 'hunter2hunter2', url, 'db/app-of-more', `first line of it, long\n${secret}\nend`]
    const redactor = makeRedactor(several)
    expect(redactor.text(`a ${url} b ${url}-of-more c postgres d`)).toBe('a ••• b ••• c ••• d')
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constantFrom(...several), fc.string({ maxLength: 6 })), { maxLength: 6 }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        (parts, cuts) => {
          const whole = parts.join('')
          const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length]
          const stream = redactor.stream()
          const pieces = at.slice(1).map((to, i) => stream.push(whole.slice(at[i], to)))
          expect(pieces.join('') + stream.flush()).toBe(redactor.text(whole))
        },
      ),
      { numRuns: 1000 },
    )
    for (let at = 1; at < url.length; at++) {
      const stream = redactor.stream()
      expect(stream.push(`see ${url.slice(0, at)}`) + stream.push(`${url.slice(at)} there`) + stream.flush()).toBe(
        'see ••• there',
      )
    }
  })

  test('reaches every string inside a value', () => {
    const redactor = makeRedactor(['hunter2hunter2'])
    expect(redactor.deep({ input: ['a hunter2hunter2', { hunter2hunter2: 1 }], ok: true })).toEqual({
      input: ['a •••', { '•••': 1 }],
      ok: true,
    })
  })

  test('finds each line of a secret with several, however they are broken', () => {
    const lines = [randomBytes(24).toString('base64'), randomBytes(24).toString('base64')]
    const redactor = makeRedactor([`-----BEGIN KEY-----\n${lines.join('\n')}\n-----END KEY-----\n`])
    const shown = redactor.text(`  1\t-----BEGIN KEY-----\n  2\t${lines[0]}\r\n  3\t${lines[1]}\n`)
    for (const line of lines) expect(shown).not.toContain(line)
    expect(shown).toContain('BEGIN KEY')
  })

  test('leaves no beginning of one at the end of what was cut short', () => {
    const redactor = makeRedactor([secret])
    expect(redactor.cut(`all of it: ${secret}`)).toBe('all of it: •••')
    for (const length of [4, 10, secret.length - 1])
      expect(redactor.cut(`cut: ${secret.slice(0, length)}`)).toBe('cut: •••')
    expect(redactor.cut('an ordinary end b')).toBe('an ordinary end b')
  })

  test('covers bytes in their place, and leaves all others as they are', () => {
    const bytes = Buffer.concat([Buffer.from([0, 255]), Buffer.from(`a ${secret} b ${secret}`), Buffer.from([1])])
    const covered = Buffer.from(makeRedactor([secret]).bytes(bytes))
    const stars = '*'.repeat(Buffer.byteLength(secret))
    expect(covered).toEqual(
      Buffer.concat([Buffer.from([0, 255]), Buffer.from(`a ${stars} b ${stars}`), Buffer.from([1])]),
    )
    const clean = Buffer.from('nothing to see')
    expect(makeRedactor([secret]).bytes(clean)).toBe(clean)
  })

  test('leaves short values alone, which would redact ordinary words', () => {
    expect(makeRedactor(['true', '1']).text('true 1')).toBe('true 1')
  })

  test('takes the values of variables whose names say that they are secret', () => {
    const found = secretsIn({
      ANTHROPIC_API_KEY: 'a-value-of-it',
      GH_TOKEN: 'b-value-of-it',
      DB_PASSWORD: 'c-value-of-it',
      STRIPE_SECRET_KEY: 'd-value-of-it',
      NPM_CONFIG_TOKEN: 'e-value-of-it',
      PATH: 'no',
      KEYBOARD: 'no',
      HOME: 'no',
      SHORT_TOKEN: 'public',
    })
    expect(found.sort()).toEqual(['a', 'b', 'c', 'd', 'e'].map((one) => `${one}-value-of-it`))
  })

  test('takes the password out of an address', () => {
    expect(secretsOfUrl('https://user:p%40ssword1@host/x.git')).toEqual(['p%40ssword1', 'p@ssword1'])
    expect(secretsOfUrl('https://host/x@y')).toEqual([])
  })

  test('reads 50 MB in about a second with three secrets', () => {
    const redactor = makeRedactor([secret, randomBytes(24).toString('hex'), randomBytes(24).toString('base64')])
    const piece = 'The quick brown fox jumps over the lazy dog. '.repeat(2330)
    const started = performance.now()
    const stream = redactor.stream()
    for (let done = 0; done < 50_000_000; done += piece.length) stream.push(piece)
    const mb_per_s = 50_000 / (performance.now() - started)
    expect(mb_per_s).toBeGreaterThan(10)
  })
})
