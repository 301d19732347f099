import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The page runs under the policy `default-src 'self'`: nothing may be inlined, neither scripts nor images.
// `base: './'` lets it be served under any path, also behind a proxy that strips a prefix.
export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
    // ECharts is one chunk of its own, loaded when a chart is first drawn.
    chunkSizeWarningLimit: 700,
  },
  server: {
    // `npm run dev` talks to a running `steersman up`.
    proxy: { '/api': 'http://127.0.0.1:7440', '/readyz': 'http://127.0.0.1:7440' },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
