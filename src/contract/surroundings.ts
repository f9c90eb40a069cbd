/**
 * What a program needs of the machine that it runs on: where programs and homes are, language, trust and proxies. A
 * worker passes these on to its runners and a runner to its harness; none of them holds a secret. HOME and the folders
 * of the CLIs let a harness use its owner's own login where the worker has no key.
 */
export const MACHINE_VARIABLES: readonly string[] = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'LANG',
  'LANGUAGE',
  'TZ',
  'TERM',
  'COLORTERM',
  'TMPDIR',
  'IS_SANDBOX',
  'XDG_CONFIG_HOME',
  'XDG_CACHE_HOME',
  'XDG_DATA_HOME',
  'XDG_RUNTIME_DIR',
  'SSH_AUTH_SOCK',
  'GIT_SSH_COMMAND',
  'CLAUDE_CONFIG_DIR',
  'CODEX_HOME',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'NODE_EXTRA_CA_CERTS',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'GIT_SSL_CAINFO',
  'NODE_USE_ENV_PROXY',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'all_proxy',
  // Windows programs do not start without these.
  'SYSTEMROOT',
  'SystemRoot',
  'COMSPEC',
  'PATHEXT',
  'USERPROFILE',
  'APPDATA',
  'LOCALAPPDATA',
]

/** The variables that carry one provider, its key first. Who brings a key or an address for it brings all of them. */
export const PROVIDER_VARIABLES: readonly (readonly [string, ...string[]])[] = [
  ['ANTHROPIC_API_KEY', 'ANTHROPIC_BASE_URL', 'ANTHROPIC_AUTH_TOKEN'],
  ['OPENAI_API_KEY', 'OPENAI_BASE_URL'],
  ['GEMINI_API_KEY', 'GOOGLE_GEMINI_BASE_URL', 'GOOGLE_GENERATIVE_AI_API_KEY'],
  ['BATON_MODEL_API_KEY', 'BATON_MODEL_BASE_URL', 'BATON_MODEL_ID'],
  ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'],
]
