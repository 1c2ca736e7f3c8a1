package post

// Size is documented.
const Size = 1
