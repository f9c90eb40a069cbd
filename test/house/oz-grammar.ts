/**
 * The grammar of Oz's command line, as its public description has it: a line a command, its options as
 * `-s/--long`, with `=` where it takes a value, `=?` where it may, `*` where it may be repeated, and `{a|b}` for what
 * the value may be. Arguments are `ID` or `[NAME]`. `hidden` stands apart: it is understood and not shown.
 */
type GrammarLine = { path: string; aliases?: string[]; args?: string; options?: string; hidden?: string }

const MODEL = '--model='
const FILE = '-f/--file='
const MCP = '--mcp=*'
const ENV = '-e/--environment= --no-environment'
const SCOPE = '--team --personal'
const SNAP = '--no-snapshot --snapshot-upload-timeout= --snapshot-script-timeout='
const CU = '--computer-use --no-computer-use'
const HARNESS = '--harness='
const AGENT_PARTS = '--description= --prompt= --base-model= -e/--environment='

export const GRAMMAR: GrammarLine[] = [
  {
    path: 'agent run',
    aliases: ['agent r'],
    options: `-p/--prompt= --skill=* ${MODEL} ${FILE} ${MCP} ${SNAP} -n/--name= -C/--cwd= -e/--environment=
      --conversation= ${HARNESS}`,
    hidden: `--saved-prompt= --share=?* --strict-mcp-startup --mcp-startup-timeout= --profile=
      --task-id= --gui --mcp-server=* --idle-on-complete=? --idle-on-fail=? --sandboxed
      --bedrock-inference-role= --bedrock-role-region= ${CU} --skip-initial-turn
      --configure-git-credentials-with-github --repository-head-override-json=*
      --remove-repository-origins`,
  },
  {
    path: 'agent run-cloud',
    aliases: ['agent ra', 'agent run-ambient'],
    args: '[PROMPT]',
    options: `-p/--prompt= --skill=* ${MODEL} ${FILE} ${MCP} ${ENV} ${SCOPE} ${SNAP} -n/--name= --title=
      --parent-run-id= --open --conversation= --agent= --host= --attach=* ${HARNESS} --claude-auth-secret=
      --codex-auth-secret=`,
    hidden: `--saved-prompt= ${CU} --runner=`,
  },
  { path: 'agent profile list' },
  { path: 'agent list', options: '--sort-by={name|created-at} --sort-order={asc|desc}' },
  { path: 'agent get', args: 'UID' },
  { path: 'agent create', options: `-n/--name= ${AGENT_PARTS} --secret=* --skill=*` },
  {
    path: 'agent update',
    args: 'UID',
    options: `-n/--name= ${AGENT_PARTS} --remove-description --add-secret=* --remove-secret=* --remove-all-secrets
      --add-skill=* --remove-skill=* --remove-all-skills --remove-base-model --remove-environment
      --remove-prompt`,
  },
  { path: 'agent delete', args: 'UID' },
  { path: 'agent skills', options: '-r/--repo=' },
  {
    path: 'run list',
    aliases: ['task list'],
    options: `-L/--limit= --state={queued|pending|claimed|in-progress|succeeded|failed|error|blocked|cancelled}*
      --source={api|cli|slack|linear|scheduled-agent|web-app|cloud-mode|github-action|interactive}
      --execution-location={local|remote} --creator= --environment= --skill= --schedule= --ancestor-run=
      --name= --model= --artifact-type={plan|pull-request|screenshot|file} --created-after=
      --created-before= --updated-after= -q/--query= --sort-by={updated-at|created-at|title|agent}
      --sort-order={asc|desc} --cursor=`,
  },
  { path: 'run get', aliases: ['task get'], args: 'ID', options: '--conversation' },
  { path: 'run conversation get', args: 'CONVERSATION' },
  { path: 'run message watch', args: 'RUN', options: '--since-sequence=' },
  { path: 'run message send', options: '--to=* --subject= --body= --sender-run-id=' },
  { path: 'run message list', args: 'RUN', options: '--unread --since= -L/--limit=' },
  { path: 'run message read', args: 'MESSAGE' },
  { path: 'run message mark-delivered', aliases: ['run message delivered'], args: 'MESSAGE' },
  {
    path: 'schedule create',
    options: `--name= --cron= -p/--prompt= --skill=* ${MODEL} ${ENV} ${FILE} ${SCOPE} ${MCP} --host=`,
  },
  { path: 'schedule list' },
  { path: 'schedule get', args: 'ID' },
  {
    path: 'schedule update',
    args: 'ID',
    options: `--name= --cron= -p/--prompt= --skill=* --remove-skill ${MODEL} -e/--environment=
      --remove-environment ${FILE} ${MCP} --remove-mcp=* --host=`,
  },
  { path: 'schedule pause', args: 'ID' },
  { path: 'schedule unpause', aliases: ['schedule resume'], args: 'ID' },
  { path: 'schedule delete', args: 'ID' },
  { path: 'environment list', aliases: ['e list'] },
  { path: 'environment image list', aliases: ['e image list'] },
  {
    path: 'environment create',
    aliases: ['e create'],
    options: `-n/--name= --description= -d/--docker-image= -r/--repo=* -c/--setup-command=* ${SCOPE}`,
  },
  { path: 'environment get', aliases: ['e get'], args: 'ID' },
  {
    path: 'environment update',
    aliases: ['e update'],
    args: 'ID',
    options: `-n/--name= --description= --remove-description -d/--docker-image= -r/--repo=* -c/--setup-command=*
      --remove-repo=* --remove-setup-command=* --force`,
  },
  { path: 'environment delete', aliases: ['e delete'], args: 'ID', options: '--force' },
  { path: 'mcp list' },
  { path: 'model list' },
  { path: 'login' },
  { path: 'logout' },
  { path: 'whoami' },
  {
    path: 'secret create',
    args: '[NAME]',
    options: `-t/--type={raw-value|anthropic-api-key} -f/--value-file= -d/--description= ${SCOPE}`,
  },
  { path: 'secret create claude api-key', args: 'NAME', options: '-f/--value-file=' },
  { path: 'secret create claude bedrock-api-key', args: 'NAME', options: '--bedrock-api-key= --region=' },
  {
    path: 'secret create claude bedrock-access-key',
    args: 'NAME',
    options: '--access-key-id= --secret-access-key= --session-token= --region=',
  },
  { path: 'secret create codex api-key', args: 'NAME', options: '-f/--value-file= --base-url=' },
  { path: 'secret update', args: 'NAME', options: `--value= -f/--value-file= -d/--description= ${SCOPE}` },
  { path: 'secret delete', args: 'NAME', options: `--force ${SCOPE}` },
  { path: 'secret list' },
  {
    path: 'api-key list',
    options: '--sort-by={name|created-at|last-used-at|expires-at|scope} --sort-order={asc|desc}',
  },
  { path: 'api-key create', args: 'NAME', options: '--agent= --expires-in= --expires-at= --no-expiration' },
  { path: 'api-key expire', aliases: ['api-key delete'], args: 'KEY', options: '--force' },
  { path: 'artifact get', args: 'UID' },
  { path: 'artifact download', args: 'UID', options: '-o/--out=' },
  { path: 'artifact upload', args: 'PATH', options: '--run-id= --conversation-id= --description=' },
  {
    path: 'federate issue-token',
    options: `--run-id= --audience= --duration=
      --subject-template={principal|scoped_principal|email|teams|environment|agent_name|skill_spec|run_id|host}*`,
  },
  { path: 'federate issue-gcp-token' },
  { path: 'harness-support ping', options: '--run-id=' },
  { path: 'harness-support report-artifact pull-request', options: '--url= --branch=' },
  { path: 'harness-support report-external-reference', options: '--url= --reference-type= --title= --metadata=' },
  { path: 'harness-support notify-user', options: '--message=' },
  { path: 'harness-support finish-task', options: '--status={success|failure} --summary=' },
  { path: 'harness-support report-shutdown', options: '--error-category= --error-message=' },
  { path: 'completion', aliases: ['completions'], args: '[SHELL]' },
  { path: 'memory-store list', aliases: ['memory-stores list'] },
  { path: 'memory-store get', args: 'UID' },
  { path: 'memory-store update', args: 'UID', options: '-d/--description=' },
  { path: 'memory-store list-store-agents', args: 'UID' },
  { path: 'memory list', args: 'STORE' },
  {
    path: 'memory create',
    aliases: ['memory add'],
    args: 'STORE',
    options: '-c/--content= -r/--reason= --version=',
  },
  {
    path: 'memory update',
    aliases: ['memory edit'],
    args: 'MEM',
    options: '-s/--store= -c/--content= -r/--reason= --version=',
  },
  { path: 'memory delete', aliases: ['memory remove'], args: 'MEM', options: '-s/--store=' },
  { path: 'memory versions', args: 'MEM', options: '-s/--store=' },
]

/** Options that stand before or after any command's name. */
export const GLOBALS = '--api-key= --output-format={json|ndjson|pretty|text} --debug --jq='
export const HIDDEN_GLOBALS = '--server-root-url= --ws-server-url= --session-sharing-server-url='

/** Commands that Baton has no like of, as somebody would call them, and a word of what is said instead. */
export const NOT_HERE: [string, RegExp][] = [
  ['runner list --sort-by name', /baton workers/],
  ['runner create -n x -d y -c z --os linux --vcpus 2 --memory-gb 4 --team', /baton environment create/],
  ['runner update UID -n x', /baton environment create/],
  ['runner delete UID --force', /baton environment create/],
  ['integration create slack -e app -p x --host y', /baton schedule/],
  ['i update linear --remove-mcp x', /trigger_url/],
  ['integration list', /trigger_url/],
  ['provider setup slack --team', /trigger_url/],
  ['provider list', /trigger_url/],
  ['agent run --saved-prompt ID', /--prompt-file FILE/],
  ['agent run-cloud x --profile strict', /agent profile list/],
  ['agent run-cloud x --mcp 6ba7b810-9dad-41d1-80b4-00c04fd430c8', /baton mcp list/],
  ['agent run -p x --mcp-server 6ba7b810-9dad-41d1-80b4-00c04fd430c8', /baton mcp list/],
  ['agent run-cloud x --bedrock-role-region eu-west-1', /go together/],
  ['agent run -p x --bedrock-role-region eu-west-1', /go together/],
  ['agent run -p x --skip-initial-turn', /--skip-initial-turn needs --task-id/],
  ['agent run -p x --share everybody', /team, public or an e-mail address/],
]
