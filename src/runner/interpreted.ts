/**
 * Loaded before the contract: its shapes then read what they parse as they are, instead of compiling code for it first,
 * which pays after many hundreds of answers. A runner that lives for a second has five.
 */
import { config } from 'zod'

config({ jitless: true })
