import type { Command } from 'commander'
export function declare(_command: Command): void {}
export async function run(): Promise<void> {}
