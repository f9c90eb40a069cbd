/** What was thrown, in words: for the message of a failure, or of a line that says why something was left out. */
export const whyOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))
