/**
 * The web page: `vite build` writes it to dist/web, where the server finds it. Every file but index.html carries a hash
 * of its content or is tiny, and nothing is inlined, so that it works under `script-src 'self'; style-src 'self'`.
 */
import { fileURLToPath } from 'node:url'
import tailwind from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  root: fileURLToPath(new URL('./src/web', import.meta.url)),
  plugins: [react(), tailwind()],
  build: {
    outDir: fileURLToPath(new URL('./dist/web', import.meta.url)),
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // `light-dark()` of the style sheet goes out as written.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    target: 'es2023',
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8420' } },
})
