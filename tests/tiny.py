"""Settings of trainings that last a moment, for the tests to change what each of them is about."""

TINY = {
    "patients": 4,
    "validation_patients": 1,
    "size_px": 32,
    "spacing_mm": 6.0,
    "width": 4,
    "depth": 3,
    "codes": 16,
    "code_dim": 8,
    "references": 6,
    "epochs": 2,
    "batch_size": 8,
    "accelerator": "cpu",
}
