/** The commands of secrets and of tokens for runs. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const SECRET_GROUPS: Record<string, CommandGroup> = {
  secret: { summary: 'Values that runs are given and nobody is shown again', aliases: ['secrets'], group: 'Runs:' },
  'secret create claude': { summary: 'Keep a key for Claude Code' },
  'secret create codex': { summary: 'Keep a key for Codex' },
  federate: { summary: 'Tokens by which others know a run', group: 'Runs:' },
}

const secret = () => import('./commands/secret.ts')
const keys = () => import('./commands/secret-keys.ts')
const federate = () => import('./commands/federate.ts')

export const SECRET_COMMANDS: CommandEntry[] = [
  { path: 'secret list', aliases: ['ls'], summary: 'List secrets', load: async () => (await secret()).list },
  { path: 'secret create', summary: 'Keep a secret', load: async () => (await secret()).create },
  { path: 'secret update', summary: 'Change a secret', load: async () => (await secret()).update },
  { path: 'secret delete', aliases: ['rm'], summary: 'Delete a secret', load: async () => (await secret()).remove },
  {
    path: 'secret rotate-key',
    summary: 'Lock all secrets with the newest master key',
    load: async () => (await secret()).rotateKey,
  },
  {
    path: 'secret create claude api-key',
    summary: 'Keep an API key of Anthropic',
    load: async () => (await keys()).claudeApiKey,
  },
  {
    path: 'secret create claude bedrock-api-key',
    summary: 'Keep an API key of Amazon Bedrock',
    load: async () => (await keys()).bedrockApiKey,
  },
  {
    path: 'secret create claude bedrock-access-key',
    summary: 'Keep an access key of AWS for Amazon Bedrock',
    load: async () => (await keys()).bedrockAccessKey,
  },
  {
    path: 'secret create codex api-key',
    summary: 'Keep an API key of OpenAI',
    load: async () => (await keys()).codexApiKey,
  },
  {
    path: 'federate issue-token',
    summary: 'Print a token that says which run its bearer is',
    load: async () => (await federate()).issueToken,
  },
  {
    path: 'federate issue-gcp-token',
    summary: "Answer Google's libraries with such a token",
    hidden: true,
    load: async () => (await federate()).issueGcpToken,
  },
  {
    path: 'federate rotate-key',
    summary: 'Make another key to sign tokens with',
    load: async () => (await federate()).rotateKey,
  },
]
