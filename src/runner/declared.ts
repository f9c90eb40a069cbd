/** Where an environment declares what of a workspace is to be kept: the public names. */
export const FILE_VARIABLE = 'OZ_SNAPSHOT_DECLARATIONS_FILE'
export const SCRIPT_VARIABLE = 'OZ_SNAPSHOT_DECLARATIONS_SCRIPT'
export const DECLARING = [FILE_VARIABLE, SCRIPT_VARIABLE]

/** Where the file is not named. */
export const declarationsOf = (run_id: string): string => `/tmp/oz/${run_id}/snapshot-declarations.jsonl`
