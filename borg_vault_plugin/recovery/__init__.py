"""Recovery: an archive is restored, in a drill or on the bad day, and has to prove that it is what was backed up."""
