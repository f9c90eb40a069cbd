import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { createRoot } from 'react-dom/client'
import { AskingProvider } from './data/context.tsx'
import { makeClient, makeQueryClient, queries } from './data/queries.ts'
import { makeRouter } from './router.tsx'

const page = document.getElementById('page')
if (!page) throw new Error('index.html has no element #page.')

const client = makeClient()
createRoot(page).render(
  <QueryClientProvider client={makeQueryClient()}>
    <AskingProvider asking={{ client, queries: queries(client) }}>
      <RouterProvider router={makeRouter()} />
    </AskingProvider>
  </QueryClientProvider>,
)
