// Styles stay in files (no injected <style>), which the content security policy requires.
export default { compilerOptions: { css: 'external', runes: true } };
