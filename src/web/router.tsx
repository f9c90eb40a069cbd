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
import { RunFilter } from './data/filter.ts'
import { Login } from './pages/login.tsx'
import { Crashed, NotFound } from './pages/lost.tsx'
import { RunsPage } from './pages/runs.tsx'
import { Shell } from './parts/shell.tsx'

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
  component: lazyRouteComponent(() => import('./pages/new-run.tsx'), 'NewRunPage'),
})

const run = createRoute({
  getParentRoute: () => shell,
  path: '/runs/$runId',
  validateSearch: z.object({ view: z.enum(['agents', 'messages']).optional().catch(undefined) }),
  component: lazyRouteComponent(() => import('./pages/run.tsx'), 'RunPage'),
})

const needs = createRoute({
  getParentRoute: () => shell,
  path: '/needs-you',
  component: lazyRouteComponent(() => import('./pages/needs-you.tsx'), 'NeedsYouPage'),
})

const batches = createRoute({
  getParentRoute: () => shell,
  path: '/batches',
  component: lazyRouteComponent(() => import('./pages/batches.tsx'), 'BatchesPage'),
})

const newBatch = createRoute({
  getParentRoute: () => shell,
  path: '/batches/new',
  component: lazyRouteComponent(() => import('./pages/new-batch.tsx'), 'NewBatchPage'),
})

const batch = createRoute({
  getParentRoute: () => shell,
  path: '/batches/$batchId',
  validateSearch: z.object({ state: TaskState.optional().catch(undefined) }),
  component: lazyRouteComponent(() => import('./pages/batch.tsx'), 'BatchPage'),
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
