/** What a table that is written as an object has under a name that anybody may choose: nothing that all objects have. */
export const entryOf = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined
