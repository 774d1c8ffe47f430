"""Every use of a private or version-fragile name of another library, behind one function each.

A module here is named after its library; transformers has one for each of its corners. A function says what it is for,
`tests/compat` names the API that it stands on, and a test keeps such names out of all other rooms. Where a name may be
missing and there is a public, slower way, the function says so and the caller takes that way. Where there is none,
`IncompatibleError` names the library, its version and what it lacks.
"""
