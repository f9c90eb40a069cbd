/** The addresses of the page. Search parameters are the filters, so that every view is a link. */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from '@tanstack/react-router'
import { z } from 'zod'
import { TaskState } from '../contract/index.ts'
import { Unreachable } from '../sdk/client.ts'
import { RunFilter } from './data/filter.ts'
import { Login } from './pages/login.tsx'
import { Crashed, NotFound } from './pages/lost.tsx'
import { RunsPage } from './pages/runs.tsx'
import { Shell } from './parts/shell.tsx'

/**
 * Why the file of a page could not be had. Where the server answers, it is another version that has no such file, and
 * the router loads everything anew; where it does not, that would leave nothing to go on from.
 */
async function whyNot(cause: unknown): Promise<never> {
  const answers = await fetch('/favicon.svg', { cache: 'no-store' }).then(
    ({ ok }) => ok,
    () => false,
  )
  throw answers ? cause : new Unreachable('The server does not answer.', { cause })
}

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound })

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  component: Login,
  /** `next`: where to go once signed in; only ever a path of this page. */
  validateSearch: z.object({
    next: z
      .string()
      .regex(/^\/(?![/\\])/)
      .optional()
      .catch(undefined),
  }),
})

const shell = createRoute({ getParentRoute: () => root, id: 'shell', component: Shell })

const home = createRoute({
  getParentRoute: () => root,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/runs', replace: true })
  },
})

const runs = createRoute({ getParentRoute: () => shell, path: '/runs', component: RunsPage, validateSearch: RunFilter })

const newRun = createRoute({
  getParentRoute: () => shell,
  path: '/runs/new',
  component: lazyRouteComponent(() => import('./pages/new-run.tsx').catch(whyNot), 'NewRunPage'),
})

const run = createRoute({
  getParentRoute: () => shell,
  path: '/runs/$runId',
  validateSearch: z.object({ view: z.enum(['agents', 'messages']).optional().catch(undefined) }),
  component: lazyRouteComponent(() => import('./pages/run.tsx').catch(whyNot), 'RunPage'),
})

const needs = createRoute({
  getParentRoute: () => shell,
  path: '/needs-you',
  component: lazyRouteComponent(() => import('./pages/needs-you.tsx').catch(whyNot), 'NeedsYouPage'),
})

const batches = createRoute({
  getParentRoute: () => shell,
  path: '/batches',
  component: lazyRouteComponent(() => import('./pages/batches.tsx').catch(whyNot), 'BatchesPage'),
})

const newBatch = createRoute({
  getParentRoute: () => shell,
  path: '/batches/new',
  component: lazyRouteComponent(() => import('./pages/new-batch.tsx').catch(whyNot), 'NewBatchPage'),
})

const batch = createRoute({
  getParentRoute: () => shell,
  path: '/batches/$batchId',
  validateSearch: z.object({ state: TaskState.optional().catch(undefined) }),
  component: lazyRouteComponent(() => import('./pages/batch.tsx').catch(whyNot), 'BatchPage'),
})

const tree = root.addChildren([login, home, shell.addChildren([runs, newRun, run, needs, batches, newBatch, batch])])

export function makeRouter() {
  return createRouter({
    routeTree: tree,
    defaultPreload: 'intent',
    scrollRestoration: true,
    defaultErrorComponent: Crashed,
  })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof makeRouter>
  }
}
