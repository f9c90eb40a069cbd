import { memoryRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function memoryAnswers({ engine: { memory } }: ServerRoom): Answer[] {
  return [
    mount(memoryRoutes.stores, ({ caller }) => memory.stores(caller)),
    mount(memoryRoutes.createStore, ({ caller, body }) => memory.createStore(caller, body)),
    mount(memoryRoutes.store, ({ caller, params }) => memory.store(caller, params.store_uid)),
    mount(memoryRoutes.updateStore, ({ caller, params, body }) => memory.updateStore(caller, params.store_uid, body)),
    mount(memoryRoutes.deleteStore, ({ caller, params }) => memory.deleteStore(caller, params.store_uid)),
    mount(memoryRoutes.agents, ({ caller, params }) => memory.agents(caller, params.store_uid)),
    mount(memoryRoutes.list, ({ caller, params }) => memory.list(caller, params.store_uid)),
    mount(memoryRoutes.create, ({ caller, params, body }) => memory.create(caller, params.store_uid, body)),
    mount(memoryRoutes.update, ({ caller, params, body }) => memory.update(caller, params, body)),
    mount(memoryRoutes.delete, ({ caller, params }) => memory.delete(caller, params)),
    mount(memoryRoutes.versions, ({ caller, params }) => memory.versions(caller, params)),
  ]
}
