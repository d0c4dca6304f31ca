import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// `RAMPART_SERVER=https://127.0.0.1:8443 npm run dev` works on the console
// against a running server; the server itself serves what `npm run build` makes.
const server = process.env.RAMPART_SERVER;

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    target: 'es2022',
    // The console's CSP allows styles and scripts from its own origin only, so
    // nothing may be inlined into the page or into another file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    chunkSizeWarningLimit: 700,
  },
  server: server ? { proxy: { '/api': { target: server, secure: false } } } : {},
});
