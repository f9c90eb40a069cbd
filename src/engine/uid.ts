import { randomInt, randomUUID } from 'node:crypto'

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
const LENGTH = 22

/** An id in the form that Oz gives environments and agents. */
export const newUid = (): string => Array.from({ length: LENGTH }, () => LETTERS[randomInt(LETTERS.length)]).join('')

/** Of milliseconds, in hexadecimal. */
const TIME_DIGITS = 12

/**
 * A UUID in the form of a random one (version 4) that begins with its time, so that what is made one after the other
 * stands side by side in an index: random ones would each bring another page of it to memory and to the log. What is
 * made within one millisecond comes in no order.
 */
export function newTimedId(now: Date): string {
  const time = now.getTime().toString(16).padStart(TIME_DIGITS, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}${randomUUID().slice(TIME_DIGITS + 1)}`
}
